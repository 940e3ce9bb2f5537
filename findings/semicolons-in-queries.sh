#!/usr/bin/env bash
# The query `a=1;b=2&c=3` has two parameters for most servers, three for some, and one for Go. So a proxy that judges a query by
# its parameters does not know the reading of the backend if the query contains `;`.
#
# Result on 2026-11-30:
#   split at `;` as well as at `&`        WebOb 1.8.11 (Pyramid), CherryPy 18.10.0
#   `;` is a byte of the value            Werkzeug 3.1.9 (Flask), Django 5.2.19, Starlette 1.10.0, Falcon 4.4.0, Bottle 0.13.4,
#                                         Tornado 6.6.1, yarl 1.25.1 (aiohttp), qs 6.17.1 and node:querystring
# Tried by hand with packages of Debian 12: Rack 2.2.22, CGI.pm 4.55 and Plack split; PHP 8.2.36 and Mojolicious 9.31 do not; Go 1.19
# ignores all of `a=1;b=2` and reports an error, which `URL.Query()` drops.
#
# The script needs python3 with venv, npm, and a package registry. It writes only into a temporary folder, and exits with 1 if a
# library differs from the table.
source "$(dirname "$0")/environment.sh" webob==1.8.11 cherrypy==18.10.0 werkzeug==3.1.9 django==5.2.19 starlette==1.10.0 \
  falcon==4.4.0 bottle==0.13.4 tornado==6.6.1 yarl==1.25.1
npm install --silent --no-fund --no-audit qs@6.17.1

cat >read.py <<'PY'
import sys

QUERY = "a=1;b=2&c=3"
ENVIRON = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/", "QUERY_STRING": QUERY, "SERVER_NAME": "localhost",
           "SERVER_PORT": "80", "wsgi.url_scheme": "http"}

def readings():
    import bottle, falcon
    from cherrypy.lib import httputil
    from django.conf import settings
    from django.http import QueryDict
    from starlette.datastructures import QueryParams
    from tornado.escape import parse_qs_bytes
    from webob import Request as WebObRequest
    from werkzeug.wrappers import Request as WerkzeugRequest
    from yarl import URL
    settings.configure()
    yield "WebOb", "splits", WebObRequest(dict(ENVIRON)).GET
    yield "CherryPy", "splits", httputil.parse_query_string(QUERY)
    yield "Werkzeug", "keeps", WerkzeugRequest(dict(ENVIRON)).args
    yield "Django", "keeps", QueryDict(QUERY)
    yield "Starlette", "keeps", QueryParams(QUERY)
    yield "Falcon", "keeps", falcon.uri.parse_query_string(QUERY)
    yield "Bottle", "keeps", bottle.BaseRequest(dict(ENVIRON)).query
    yield "Tornado", "keeps", parse_qs_bytes(QUERY.encode())
    yield "yarl", "keeps", URL("http://localhost/?" + QUERY).query

failed = False
for name, expected, parameters in readings():
    seen = {frozenset("abc"): "splits", frozenset("ac"): "keeps"}.get(frozenset(parameters), "something else")
    print(f"{name:<18} {seen}")
    failed |= seen != expected
sys.exit(failed)
PY
venv/bin/python read.py

cat >read.mjs <<'JS'
import querystring from 'node:querystring';
import qs from 'qs';
const QUERY = 'a=1;b=2&c=3';
for (const [name, parse] of [['node:querystring', querystring.parse], ['qs', qs.parse]]) {
  const seen = Object.keys(parse(QUERY)).join() === 'a,c' ? 'keeps' : 'something else';
  console.log(name.padEnd(18), seen);
  if (seen !== 'keeps') process.exitCode = 1;
}
JS
node read.mjs
