#!/usr/bin/env bash
# Shows the main job on this machine alone: a file of 500 invented people goes in, and the
# same file comes out with their links, through a simulated FaceKi that fails
# occasionally. Some rows cannot get a link. `make demo` builds and runs it.
set -euo pipefail
kyclink=$1
dir=$(mktemp -d)
simulator=
trap '[ -z "$simulator" ] || kill "$simulator"; rm -rf "$dir"' EXIT
for name in $(compgen -e | grep -E '^(KYCLINK|FACEKI)_' || true); do unset "$name"; done

cat > "$dir/script.json" <<'JSON'
{"seed": 1, "latency": "20ms", "jitter": "10ms", "max_faults_per_id": 2,
 "faults": [{"fault": "http_500", "probability": 0.02}, {"fault": "http_429", "probability": 0.02},
            {"fault": "reset_after", "probability": 0.01}],
 "rules": [{"match": "DEMO-0004", "fault": "code_5002"}]}
JSON
mkfifo "$dir/address"
"$kyclink" simulator --listen 127.0.0.1:0 --script "$dir/script.json" > "$dir/address" 2>/dev/null &
simulator=$!
read -r FACEKI_BASE_URL < "$dir/address"
export FACEKI_BASE_URL FACEKI_RATE=100/s FACEKI_BURST=10

awk 'BEGIN {
  print "application_id,redirect_url,name,metadata"
  for (i = 1; i <= 500; i++)
    printf "DEMO-%04d,%s,\"Person %d\",\"{\"\"customer\"\":\"\"%d\"\"}\"\n", i,
      i % 100 == 3 ? "http://shop.example/done" : "https://shop.example/done", i, i
}' > "$dir/people.csv"

echo '$ head -n 3 people.csv'
head -n 3 "$dir/people.csv"
echo
echo '$ kyclink run people.csv -o links.csv --simulate'
code=0
"$kyclink" run "$dir/people.csv" -o "$dir/links.csv" --simulate || code=$?
echo "exit code $code: 2 means done, but some rows have no link"
echo
echo '$ head -n 8 links.csv'
head -n 8 "$dir/links.csv"
[ "$code" -eq 2 ] && [ "$(grep -c ',created,' "$dir/links.csv")" -eq 494 ]
