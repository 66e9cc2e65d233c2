"""A small HTTP/1.1 server and client on llhttp (httptools) and asyncio, for the two processes where every microsecond counts.

A general-purpose server costs more than the model: with it a replica answers a third of what it does here
(`benchmarks/serving_http.py` measures both). The replica's application also runs as ASGI (`narf.serving.asgi`).
"""
