#!/bin/sh
# What a user would write instead of the agent: `drain.sh DATA_DIR PROFILE_ID`, from cron or a timer every 30 s.
#
# Sends the profile's queue to the server in the app's settings, 100 ops at a time, and deletes what the answer names.
# Needs curl and the sqlite3 shell with its JSON functions. It stops at the first answer that is not 200; it knows
# nothing of stamps that are taken, of ops that are refused for ever, of whose an op is, and of the app at work.
set -eu
data=$1 profile=$2

sql() { sqlite3 -batch -cmd '.timeout 5000' "$@"; }
setting() { sql "$data/app.db" "SELECT value FROM app_setting WHERE key = '$1'"; }

url=$(setting app.waveflow_server_url)
device=$(setting sync.device_id)
canonical=$(sql "$data/app.db" "SELECT canonical_id FROM profile WHERE id = $profile")
db=$data/$(sql "$data/app.db" "SELECT data_dir FROM profile WHERE id = $profile")/data.db
token=$(sql "$db" "SELECT CAST(token_encrypted AS TEXT) FROM auth_credential WHERE provider = 'waveflow_server'")

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Not on a command line, where everybody on the machine could read it.
printf 'header = "Authorization: Bearer %s"\n' "$token" >"$scratch/curl"

while
    sql "$db" "
        SELECT json_object('device_id', '$device', 'ops', json_group_array(json_object(
            'operation_id', operation_id, 'lamport_ts', lamport_ts, 'entity', entity, 'entity_id', entity_id,
            'field', field, 'op', op, 'payload', json(payload), 'profile_canonical_id', '$canonical',
            'hlc', json_object('wall', hlc_wall, 'logical', hlc_logical))))
        FROM (SELECT * FROM sync_pending_op ORDER BY id LIMIT 100) HAVING count(*) > 0;" >"$scratch/body"
    [ -s "$scratch/body" ]
do
    curl --silent --show-error --fail --max-time 40 --config "$scratch/curl" --header 'Content-Type: application/json' \
        --data-binary "@$scratch/body" --output "$scratch/answer" "${url%/}/api/v1/sync/ops"
    deleted=$(sql "$db" "
        PRAGMA synchronous = NORMAL;
        DELETE FROM sync_pending_op WHERE operation_id IN (
            SELECT json_extract(value, '\$.operation_id')
            FROM json_each(CAST(readfile('$scratch/answer') AS TEXT), '\$.accepted'));
        SELECT changes();")
    [ "$deleted" -gt 0 ] || { echo 'the server accepts nothing' >&2 && exit 75; }
done
