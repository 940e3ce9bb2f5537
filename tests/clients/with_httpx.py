"""Arguments: METHOD URL CA [CERTIFICATE KEY]. Prints the HTTP version, the status and the reason; the client is httpx over HTTP/2."""

import ssl
import sys

import httpx

method, url, ca, *credential = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
if credential:
    context.load_cert_chain(*credential)
body = "x" * 1000 if method == "POST" else None
with httpx.Client(http2=True, verify=context, timeout=20) as client:
    answer = client.request(method, url, content=body)
problem = answer.headers.get("content-type") == "application/problem+json"
print(answer.http_version, answer.status_code, answer.json()["reason"] if problem else "-")
