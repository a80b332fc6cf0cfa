"""``python -m aino_ir.driver.cli`` is ``ainoc``."""

from aino_ir.driver.cli import main

main()
