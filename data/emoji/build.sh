#!/usr/bin/env bash
# Makes the emoji shards from pinned npm packages: build.sh OUT_DIR. Needs npm and cargo.
set -euo pipefail
out=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")/builder"
packages=downloads
mkdir -p "$packages"
fetch() { # package version folder sha256
  local file="$packages/$3-$2.tgz"
  if [ ! -f "$file" ]; then
    mkdir -p "$packages/fetched"
    npm pack --silent --pack-destination "$packages/fetched" "$1@$2" >/dev/null
    mv "$packages"/fetched/*.tgz "$file"
  fi
  echo "$4  $file" | sha256sum --check --quiet
  rm -rf "${packages:?}/$3"
  mkdir -p "$packages/$3"
  tar -xzf "$file" -C "$packages/$3" --strip-components 1
}
fetch @iconify-json/noto 1.2.9 noto 3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad
fetch @iconify-json/noto-v1 1.2.5 noto-v1 2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37
fetch @iconify-json/twemoji 1.2.5 twemoji 19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7
fetch @iconify-json/openmoji 1.2.29 openmoji 03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5
fetch @iconify-json/fluent-emoji 1.2.7 fluent-emoji 8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b
fetch @iconify-json/fluent-emoji-flat 1.2.6 fluent-emoji-flat 7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175
fetch @iconify-json/emojione 1.2.3 emojione 26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e
fetch @iconify-json/emojione-v1 1.2.3 emojione-v1 6641d59d48a42823fdc2b84e7427e9f302944eb98d2c7d94d6e67c139e7b37b3
fetch emojibase-data 17.0.0 emojibase-data d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a
cargo run --release --locked --quiet -- "$packages" "$out"
