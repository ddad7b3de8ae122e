#!/usr/bin/env bash
# duel on a machine with one GPU, with or without a network: what it is, the tests that want a GPU, speeds, and a league
# from end to end: the mission for as long as there is time, or tests/gpu/short.yaml where under 6 minutes are left.
# The most important first; each part has its own limit, and what was measured is in OUT as it comes (results.json,
# *.txt, the league's tables and page), so that a stop at any moment loses nothing.
#
#   bash tests/gpu/check.sh OUT [SECONDS]      in the project's root, in duel's environment; SECONDS: default 600
#   PEER=dcgan/main.py bash ...                the public example to measure against (github.com/pytorch/examples)
#   CPU=1 bash tests/gpu/check.sh OUT          rehearses every line where there is no GPU, on sizes that mean nothing
#
# Exit codes: 0 all parts ran, 1 one failed (the others ran all the same), 2 wrong usage.
set -u
[ $# -ge 1 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
OUT=$1 TIME=${2:-600} FAILED=0
[[ $TIME =~ ^[0-9]+$ ]] || { echo "SECONDS: got $TIME; give a whole number" >&2; exit 2; }
END=$((SECONDS + TIME))
[ -f pyproject.toml ] && mkdir -p "$OUT" || { echo "start this in the project's root, with a folder that can be written" >&2; exit 2; }
export PYTHONUNBUFFERED=1 PYTHONPATH=${PYTHONPATH:+$PYTHONPATH:}$PWD
PYTHON=$(command -v python || command -v python3)

part() { # name, limit in seconds, command: its output goes to OUT/name.txt and, in its last lines, to the terminal
    local name=$1 limit=$2 begin=$SECONDS code; shift 2
    timeout -k 10 -s INT "$limit" "$@" >"$OUT/$name.txt" 2>&1; code=$?
    [ "$code" = 0 ] || FAILED=1
    echo "== $name: exit $code after $((SECONDS - begin)) s of at most $limit"
    tail -n 60 "$OUT/$name.txt"
}

{ nvidia-smi || echo "no nvidia-smi"; } >"$OUT/machine.txt" 2>&1
sed -n 1,15p "$OUT/machine.txt"
league() { # name, seconds, sweep
    part "$1" $(($2 + 20)) "$PYTHON" tests/gpu/league.py "$OUT" "$2" "$3"
}
part tests 100 "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider tests/gpu
part speed 110 "$PYTHON" tests/gpu/speed.py ${PEER:+--peer "$PEER"} "$OUT"
left=$((END - SECONDS - 20))
if [ "${CPU:-}" = 1 ]; then
    league mission 60 sweeps/mission.yaml # the tests' tiny one in its place
elif [ "$left" -ge 360 ]; then
    league mission "$left" sweeps/mission.yaml
elif [ "$left" -ge 30 ]; then
    league short "$left" tests/gpu/short.yaml
else
    echo "== no league: no time is left for one; SECONDS: 600 are enough for the short one, 900 for the mission's start"
fi
exit $FAILED
