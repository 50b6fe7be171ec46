"""`python -I -m sampan.zygote --socket N [--preload MODULE]…`."""

from sampan.zygote.server import main

main()
