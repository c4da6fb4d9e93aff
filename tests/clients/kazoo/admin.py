"""Asks an admin port over HTTP as scripts do: METHOD, URL, then NAME=VALUE of headers, and cafile=PATH, cert=PATH, body=BYTES. Prints the status, the
headers and, behind an empty line, the body; or why there was no answer."""

import http.client
import ssl
import sys
import urllib.error
import urllib.request

method, url = sys.argv[1:3]
given = dict(pair.split("=", 1) for pair in sys.argv[3:])
context = None
if url.startswith("https"):
    context = ssl.create_default_context(cafile=given.pop("cafile"))
    if certificate := given.pop("cert", None):
        context.load_cert_chain(certificate)
body = given.pop("body", None)
request = urllib.request.Request(url, data=body and bytes(int(body)), headers=given, method=method)
try:
    answer = urllib.request.urlopen(request, timeout=60, context=context)
except urllib.error.HTTPError as refusal:
    answer = refusal
except (urllib.error.URLError, http.client.HTTPException, OSError) as failure:
    print(f"no answer: {failure}")
    sys.exit()
content = answer.read()
print(answer.status)
for name, value in answer.headers.items():
    print(f"{name.lower()}: {value}")
print()
sys.stdout.flush()
sys.stdout.buffer.write(content)
