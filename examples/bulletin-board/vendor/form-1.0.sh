# form 1.0: what a browser's form sends.

# field NAME: its value in the form on standard input, on one line; at most 4 kB of a form are read
field() {
    head -c 4096 | tr '&' '\n' | sed -n "s/^$1=//p" | head -n 1 | sed 's/+/ /g' | decode
}

# decode: %41 becomes A, and what would begin another line a space; httpd's own decoder
decode() { httpd -d "$(cat)" | tr '\n\r\t' '   '; echo; }
