#!/usr/bin/env bash
# Finds words of words.txt in the given paths, or in everything that people read. Exits with 1 where there is one.
set -euo pipefail
cd "$(dirname "$0")/../.."
paths=("$@")
[ ${#paths[@]} -gt 0 ] || paths=(src tests proto docs deploy ./*.md build.rs Makefile Cargo.toml)
found=0
while IFS=$'\t' read -r pattern instead; do
	case "$pattern" in '' | '#'*) continue ;; esac
	# "in flight" is the standard term for what was sent and is not confirmed.
	if hits=$(git grep -nIiE -e "$pattern" -- "${paths[@]}" ':!tests/lint' ':!*.lock' ':!*-lock.json' ':!src/store/migrations' |
		grep -viE 'in[ -]flight[^s]|SingleFlight|in[ -]flight$'); then
		printf 'use "%s" instead of:\n%s\n' "$instead" "$hits"
		found=1
	fi
done <tests/lint/words.txt
exit $found
