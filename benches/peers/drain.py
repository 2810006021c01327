#!/usr/bin/env python3
"""What a user would write instead of the agent: `drain.py DATA_DIR PROFILE_ID`, from cron or a timer.

Sends the profile's queue to the server in the app's settings, 100 ops at a time, and deletes what the answer names.
It stops at the first answer that is not 200; it knows nothing of stamps that are taken, of ops that are refused for
ever, of whose an op is, and of the app being at work meanwhile.
"""
import http.client
import json
import sqlite3
import sys
import urllib.parse

BATCH = 100


def main(data_dir, profile):
    app = sqlite3.connect(f"{data_dir}/app.db", timeout=5)
    settings = dict(app.execute("SELECT key, value FROM app_setting"))
    canonical_id, directory = app.execute(
        "SELECT canonical_id, data_dir FROM profile WHERE id = ?", (profile,)
    ).fetchone()
    db = sqlite3.connect(f"{data_dir}/{directory}/data.db", timeout=5)
    db.execute("PRAGMA synchronous = NORMAL")
    (token,) = db.execute(
        "SELECT token_encrypted FROM auth_credential WHERE provider = 'waveflow_server'"
    ).fetchone()
    url = urllib.parse.urlsplit(settings["app.waveflow_server_url"])
    server = http.client.HTTPConnection(url.netloc, timeout=40)
    headers = {"Authorization": f"Bearer {token.decode()}", "Content-Type": "application/json"}
    while True:
        rows = db.execute(
            "SELECT id, operation_id, lamport_ts, entity, entity_id, field, op, payload, hlc_wall, hlc_logical "
            "FROM sync_pending_op ORDER BY id LIMIT ?",
            (BATCH,),
        ).fetchall()
        if not rows:
            return 0
        ops = []
        for _, operation_id, stamp, entity, entity_id, field, op, payload, wall, logical in rows:
            ops.append(
                {
                    "operation_id": operation_id,
                    "lamport_ts": stamp,
                    "entity": entity,
                    "entity_id": entity_id,
                    "field": field,
                    "op": op,
                    "payload": None if payload is None else json.loads(payload),
                    "profile_canonical_id": canonical_id,
                    "hlc": {"wall": wall, "logical": logical},
                }
            )
        body = json.dumps(
            {"device_id": settings["sync.device_id"], "ops": ops}, ensure_ascii=False, separators=(",", ":")
        )
        server.request("POST", f"{url.path.rstrip('/')}/api/v1/sync/ops", body.encode(), headers)
        answer = server.getresponse()
        text = answer.read()
        if answer.status != 200:
            print(f"the server says {answer.status}: {text[:200]!r}", file=sys.stderr)
            return 75
        accepted = [(row["operation_id"],) for row in json.loads(text)["accepted"]]
        if not accepted:
            print("the server accepts nothing", file=sys.stderr)
            return 75
        with db:
            db.executemany("DELETE FROM sync_pending_op WHERE operation_id = ?", accepted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
