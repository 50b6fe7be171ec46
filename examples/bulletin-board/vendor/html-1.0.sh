# html 1.0: text into pages.

# escape: standard input as text of a page
escape() { sed 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g; s/"/\&quot;/g'; }
