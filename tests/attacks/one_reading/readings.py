"""What an application in Python sees of each target, one a line."""

import json
import sys
from urllib.parse import unquote, urlsplit

for line in sys.stdin:
    parts = urlsplit(line.rstrip("\n"))
    reading = {"path": unquote(parts.path), "query": parts.query, "elsewhere": bool(parts.netloc)}
    print(json.dumps({"urllib of Python": reading}))
