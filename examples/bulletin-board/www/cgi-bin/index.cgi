#!/bin/sh
# The board: GET shows the notes, POST adds one.
. /usr/lib/board/html.sh
. /usr/lib/board/form.sh
notes=/var/lib/board/notes

if [ "$REQUEST_METHOD" = POST ]; then
    mkdir -p "${notes%/*}"
    field note | escape >>"$notes"
    printf 'Status: 303 See Other\r\nLocation: /\r\n\r\n'
    exit
fi
printf 'Content-Type: text/html; charset=utf-8\r\n\r\n'
cat <<'PAGE'
<!doctype html>
<title>Bulletin board</title>
<h1>Bulletin board</h1>
<ul>
<li>Welcome! This page comes from a container.</li>
PAGE
[ ! -f "$notes" ] || sed 's/.*/<li>&<\/li>/' "$notes"
cat <<'PAGE'
</ul>
<form method="post"><input name="note" required> <button>Pin it</button></form>
PAGE
