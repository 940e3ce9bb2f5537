"""Arguments: METHOD URL CA [CERTIFICATE KEY]. Prints the HTTP version, the status and the reason; the client is requests."""

import sys

import requests

method, url, ca, *credential = sys.argv[1:]
body = "x" * 1000 if method == "POST" else None
answer = requests.request(method, url, data=body, verify=ca, cert=tuple(credential) or None, timeout=20)
problem = answer.headers.get("content-type") == "application/problem+json"
print(f"HTTP/{answer.raw.version / 10}", answer.status_code, answer.json()["reason"] if problem else "-")
