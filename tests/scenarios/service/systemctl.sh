#!/bin/sh
# Plays `systemctl --user`: units are read when told to, links are made and removed as the real one does, and the service
# is what the unit's ExecStart says. Under $PLAY: `calls`, `loaded/` (units as the manager has them), `active-UNIT`, `pid`,
# `packaged/` (units of a package), and `broken` if there is no manager.
set -u
# A shell's own may read backslashes.
echo() { printf '%s\n' "$*"; }
echo "$*" >>"$PLAY/calls"
if [ -e "$PLAY/broken" ]; then
    echo "Failed to connect to bus: No medium found" >&2
    exit 1
fi
[ "$1" = --user ] || exit 64
shift
own=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
mkdir -p "$PLAY/loaded"

fragment() { for file in "$own/$1" "$PLAY/packaged/$1"; do if [ -f "$file" ]; then echo "$file" && return; fi; done; }
load() { file=$(fragment "$1") && [ -n "$file" ] && cp "$file" "$PLAY/loaded/$1"; }
is_stale() { [ -e "$PLAY/loaded/$1" ] && ! cmp -s "$PLAY/loaded/$1" "$(fragment "$1")"; }
wants() { case $1 in *.service) echo "$own/default.target.wants" ;; *) echo "$own/sockets.target.wants" ;; esac; }

# listens: where the socket is, by its unit.
listens() {
    listens=$(sed -n 's/^ListenStream=//p' "$PLAY/loaded/waveflow-sync-agent.socket")
    case $listens in %t/*) echo "$XDG_RUNTIME_DIR${listens#%t}" ;; *) echo "$listens" | sed 's/%%/%/g' ;; esac
}

# word WORD: as the real one writes it in a list.
word() {
    case $1 in
    *[\ \"\\\$\`]*) printf '"%s"' "$(printf %s "$1" | sed 's/[\\"$`]/\\&/g')" ;;
    *) printf %s "$1" ;;
    esac
}

# drop_ins UNIT: the list of them.
drop_ins() {
    for file in "$own/$1.d"/*.conf; do if [ -f "$file" ]; then printf '%s ' "$(word "$file")"; fi; done
}

show() {
    file=$(fragment "$1")
    link=$(wants "$1")/$1
    echo "LoadState=$([ -n "$file" ] && echo loaded || echo not-found)"
    echo "FragmentPath=$file"
    echo "UnitFileState=$(if [ -h "$link" ]; then echo enabled; elif [ -n "$file" ]; then echo disabled; fi)"
    echo "ActiveState=$([ -e "$PLAY/active-$1" ] && echo active || echo inactive)"
    echo "SubState=$([ -e "$PLAY/active-$1" ] && echo running || echo dead)"
    echo "Result=success"
    echo "ActiveEnterTimestamp=$(cat "$PLAY/active-$1" 2>/dev/null)"
    echo "MainPID=$(cat "$PLAY/pid" 2>/dev/null || echo 0)"
    echo "NeedDaemonReload=$(is_stale "$1" && echo yes || echo no)"
    echo "DropInPaths=$(drop_ins "$1")"
}

start() {
    if [ ! -e "$PLAY/loaded/$1" ]; then load "$1" || { echo "Unit $1 not found." >&2 && exit 5; }; fi
    if is_stale "$1"; then echo "Unit $1 changed on disk, and nobody said daemon-reload." >&2 && exit 1; fi
    [ ! -e "$PLAY/active-$1" ] || return 0
    case $1 in *.service)
        eval "set -- $1 $(sed -n 's/^ExecStart=//p' "$PLAY/loaded/$1" | sed 's/%%/%/g')"
        unit=$1
        shift
        "$@" >"$PLAY/log" 2>&1 &
        echo $! >"$PLAY/pid"
        # As with Type=notify, it is started when it says so.
        tries=0
        socket=$(listens)
        until [ -S "$socket" ]; do
            tries=$((tries + 1))
            if [ $tries -gt 600 ] || ! kill -0 "$!" 2>/dev/null; then
                echo "Job for $unit failed." >&2
                exit 1
            fi
            sleep 0.05
        done
        set -- "$unit"
        ;;
    esac
    date >"$PLAY/active-$1"
}

stop() {
    [ -e "$PLAY/active-$1" ] || return 0
    case $1 in *.service)
        kill "$(cat "$PLAY/pid")"
        tries=0
        socket=$(listens)
        while [ -S "$socket" ] && [ $tries -lt 600 ]; do
            tries=$((tries + 1))
            sleep 0.05
        done
        rm "$PLAY/pid"
        ;;
    esac
    rm "$PLAY/active-$1"
}

enable() {
    link=$(wants "$1")/$1
    if [ -h "$link" ] && [ "$(readlink "$link")" != "$(fragment "$1")" ]; then
        echo "Failed to enable unit: File $link already exists and is a symlink to $(readlink "$link")" >&2
        exit 1
    fi
    mkdir -p "$(wants "$1")"
    ln -sfn "$(fragment "$1")" "$link"
}

disable() {
    rm -f "$(wants "$1")/$1"
    # Whoever made it.
    rmdir "$(wants "$1")" 2>/dev/null || true
}

verb=$1
shift
case $verb in
show)
    case $1 in
    --property=UnitPath) echo "UnitPath=/run/nowhere $(word "$own") $(word "$PLAY/packaged")" ;;
    *) show "$2" ;;
    esac
    ;;
daemon-reload)
    rm -rf "$PLAY/loaded"
    mkdir "$PLAY/loaded"
    for unit in waveflow-sync-agent.service waveflow-sync-agent.socket; do load "$unit" || true; done
    ;;
enable)
    now=no
    if [ "$1" = --now ]; then now=yes && shift; fi
    for unit; do enable "$unit"; done
    if [ $now = yes ]; then for unit; do start "$unit"; done; fi
    ;;
disable) for unit; do disable "$unit"; done ;;
stop) for unit; do stop "$unit"; done ;;
reset-failed) ;;
*) echo "Unknown command verb $verb." >&2 && exit 1 ;;
esac
