#!/usr/bin/env bash
# Opens reports in headless Chromium, 390 and 1,280 pixels wide, light and dark, and fails on a script error, a page that scrolls
# sideways at 390 pixels, an image without alt text, or a text as dark or as light as what is behind it.
#   scripts/check_report.sh [PAGE.html ...]   without pages: reports of tiny runs, one with hostile names, and two broken pages that
#                                             must fail
set -euo pipefail
cd "$(dirname "$0")/.."
browser=""
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then browser=$name; break; fi
done
if [ -z "$browser" ]; then
    echo "check_report: skipped, there is no Chromium here"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What is wrong with the page $1 at $2 pixels in the scheme $3 (0 dark, 1 light); nothing where it is well.
faults() {
    local page=$work/page.html wrapper=$work/wrapper.html probe=$work/probe.js dom
    # The probe comes first, so that it hears every error of the page's own scripts.
    { printf '<script>%s</script>\n' "$(cat scripts/report_probe.js)"; cat "$1"; } > "$page"
    cat > "$wrapper" <<HTML
<!doctype html><iframe id=f src=page.html style="border:0;width:$2px;height:900px"></iframe>
<script>addEventListener("message", e => { document.body.append(Object.assign(document.createElement("pre"), {textContent: e.data})) })</script>
HTML
    dom=$("$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$work/profile" --allow-file-access-from-files \
        --blink-settings=preferredColorScheme="$3" --window-size=1400,1000 --virtual-time-budget=8000 --dump-dom \
        "file://$wrapper" 2>/dev/null)
    if ! grep -q "PROBED" <<< "$dom"; then echo "the page was not probed"; return; fi
    grep -o "FAULT [^<]*" <<< "$dom" || true
}

check() {
    local failed=0 width scheme found
    for width in 390 1280; do
        for scheme in 0 1; do
            found=$(faults "$1" "$width" "$scheme")
            if [ -n "$found" ]; then
                printf '%s at %s px (scheme %s):\n%s\n' "$1" "$width" "$scheme" "$found"
                failed=1
            fi
        done
    done
    return $failed
}

if [ $# -gt 0 ]; then
    for page in "$@"; do check "$page"; done
    echo "check_report: $# pages are well"
    exit 0
fi

# A check that cannot fail is none.
head='<!doctype html><meta name=viewport content="width=device-width">'
printf '%s<div style="width:700px">wide</div>' "$head" > "$work/wide.html"
printf '%s<img src="data:image/png;base64,AA">' "$head" > "$work/alt.html"
printf '%s<script>nothing()</script>' "$head" > "$work/script.html"
printf '%s<style>body{background:#111;color:#121212}</style><p>unreadable</p>' "$head" > "$work/contrast.html"
for broken in wide alt script contrast; do
    if check "$work/$broken.html" > "$work/said"; then
        echo "check_report: the broken page $broken passed"; exit 1
    fi
done
ROCLIP_KEEP_REPORTS=$work/pages cargo test --release --locked --workspace --test cli -- --exact reports::pages_for_the_browser > "$work/log" 2>&1 \
    || { cat "$work/log"; exit 1; }
pages=("$work"/pages/*.html)
[ "${#pages[@]}" -ge 2 ] || { echo "check_report: no pages were made"; cat "$work/log"; exit 1; }
for page in "${pages[@]}"; do check "$page"; done
echo "check_report: ${#pages[@]} pages are well, 4 broken ones were caught"
