#!/usr/bin/env bash
# pack-image.sh BINARY FOLDER: builds the Dockerfile's last stage around a binary that was built outside, with neither a
# network nor a daemon, and prints the root file system of a container of it. Everything is below FOLDER.
#
# The base, which cannot be pulled here, is replaced by the files of it that the binary needs, taken from this machine.
set -euo pipefail
binary=$1
folder=$2
project=$(cd "$(dirname "$0")/../.." && pwd)
base=$(sed -n 's/^FROM \([^ ]*\) AS runtime$/\1/p' "$project/Dockerfile")
certificates=/etc/ssl/certs/ca-certificates.crt
buildah=(buildah --storage-driver vfs --root "$folder/storage" --runroot "$folder/run")

container=$("${buildah[@]}" from scratch)
root=$("${buildah[@]}" mount "$container")
mkdir -p "$root"/{dev,proc,tmp,usr/local/bin}
chmod 1777 "$root/tmp"
# The loader and the libraries, each at its own path.
ldd "$binary" | grep -oE '/[^ ]+' | while read -r library; do install -D "$library" "$root$library"; done
install -D -m 0644 "$certificates" "$root$certificates"
"${buildah[@]}" commit --quiet "$container" localhost/base >/dev/null
"${buildah[@]}" rm "$container" >/dev/null

# In place of the stage that compiles.
mkdir -p "$folder/builder/out/data"
strip -o "$folder/builder/out/registrar" "$binary"
# The health check is part of the format of docker alone.
"${buildah[@]}" build --quiet --pull-never --format docker --target runtime \
	--build-context "$base=container-image://localhost/base" --build-context "builder=$folder/builder" \
	--build-arg REGISTRAR_COMMIT=packed --build-arg TARGETARCH=any \
	--file "$project/Dockerfile" --tag localhost/registrar "$project" >/dev/null
"${buildah[@]}" mount "$("${buildah[@]}" from --pull-never localhost/registrar)"
