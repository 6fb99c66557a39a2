#!/usr/bin/env bash
# Shows the main job on this machine alone, in less than 20 seconds: a file of 500 invented
# people goes in, and comes out with their links, although the simulated FaceKi is down for
# two seconds in between. `make demo` builds and runs it.
set -euo pipefail
kyclink=$(realpath "$1")
dir=$(mktemp -d)
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$dir"
}
trap finish EXIT
for name in $(compgen -e | grep -E '^(KYCLINK|FACEKI)_' | grep -v '^KYCLINK_LOG_' || true); do unset "$name"; done
cd "$dir"

# bold prints a heading: in bold on a terminal.
bold() { if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then printf '\033[1m%s\033[0m\n' "$1"; else printf '%s\n' "$1"; fi; }
# faults switches the faults of the simulator.
faults() {
  exec 3<>"/dev/tcp/127.0.0.1/${FACEKI_BASE_URL##*:}"
  printf 'PUT /_simulator/faults/%s HTTP/1.0\r\nContent-Length: 0\r\n\r\n' "$1" >&3
  cat <&3 >/dev/null
  exec 3>&-
}
# rows prints how many rows have a status, and one of them as an example.
rows() {
  awk -F, -v status="$1" -v word="$2" '
    $4 == status { n++; if (n == 1) { id = $1; link = $6; rest = $0 } }
    END {
      if (n == 0) exit
      if (link == "") {
        for (i = 1; i <= 7; i++) sub(/^[^,]*,/, "", rest)
        sub(/,[0-9]*,[0-9]*$/, "", rest); gsub(/^"|"$/, "", rest); gsub(/""/, "\"", rest)
        link = rest
      }
      printf "  %4d %-9s such as %s  %s\n", n, word, id, link
    }' links.csv
}

# Row 4 is refused, and the link of row 7 is on an unknown host. Rows 50 and 250 fail once.
cat > script.json <<'JSON'
{"seed": 1, "latency": "20ms", "jitter": "10ms",
 "rules": [{"match": "DEMO-0004", "fault": "code_5002"}, {"match": "DEMO-0007", "fault": "foreign_url"},
           {"match": "DEMO-0050", "fault": "reset_after", "times": 1}, {"match": "DEMO-0250", "fault": "http_500", "times": 1}]}
JSON
mkfifo address
"$kyclink" simulator --listen 127.0.0.1:0 --script script.json > address 2>/dev/null &
pids+=($!)
read -r FACEKI_BASE_URL < address
export FACEKI_BASE_URL FACEKI_RATE=100/s FACEKI_BURST=10

awk 'BEGIN {
  print "application_id,redirect_url,name"
  for (i = 1; i <= 500; i++)
    printf "DEMO-%04d,%s,Person %d\n", i, i % 100 == 3 ? "http://shop.example/done" : "https://shop.example/done", i
}' > people.csv

bold 'What goes in: 500 people in a file. FaceKi is simulated, allows 100 calls a second, and will be down for 2 seconds.'
echo
echo '$ head -n 4 people.csv'
head -n 4 people.csv
echo
bold 'The job: one command, without a Redis server. While FaceKi is down the gate closes, and requests wait.'
echo
echo '$ kyclink run people.csv -o links.csv --simulate'
(sleep 2 && faults outage && sleep 2 && faults off) &
pids+=($!)
code=0
"$kyclink" run people.csv -o links.csv --simulate || code=$?
echo
bold "What came out: the same rows with their links (exit code $code: done, but some rows have none)"
echo
rows created created
doubtful=$(awk -F, '$4 == "created" && $NF > 0' links.csv | wc -l)
echo "       $doubtful of them may have a second link: a call failed after FaceKi may have made one (possible_duplicates)"
echo
bold 'What failed, and why'
echo
rows rejected rejected
rows failed failed
rows held held
echo
bold 'Where to look next'
echo
echo '  bin/kyclink dev --sample    the same live: API, operator console, and faults that you switch'
echo '  bin/kyclink run --help      your own file; the column reason says why a row has no link'
echo '  docs/getting-started.md     step by step'
[ "$code" -eq 2 ] && [ "$(grep -c ',created,' links.csv)" -eq 493 ]
