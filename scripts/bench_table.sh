#!/usr/bin/env bash
# One table of what criterion measured: the mean of each benchmark, read from the estimates it left in FOLDER.
set -euo pipefail
folder=${1:?names the folder of the estimates: bench_table.sh TARGET/criterion}
if [ ! -d "$folder" ]; then
  echo "no estimates in $folder" >&2
  exit 1
fi
printf '\n%-64s %14s\n' benchmark mean
find "$folder" -path '*/new/estimates.json' | sort -V | while read -r file; do
  name=${file#"$folder"/}
  name=${name%/new/estimates.json}
  # {"mean":{"confidence_interval":{…},"point_estimate":NANOSECONDS,…
  nanos=$(sed -n 's/^{"mean":{"confidence_interval":{[^}]*},"point_estimate":\([0-9.eE+-]*\).*/\1/p' "$file")
  LC_ALL=C awk -v name="$name" -v nanos="$nanos" 'BEGIN {
    unit = "ns"; value = nanos
    if (value >= 1000) { value /= 1000; unit = "µs" }
    if (value >= 1000) { value /= 1000; unit = "ms" }
    if (value >= 1000) { value /= 1000; unit = "s" }
    printf "%-64s %11.2f %s\n", name, value, unit
  }'
done
