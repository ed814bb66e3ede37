# The proxy alone: built in a stage with a compiler, run in one without, as an unprivileged user.
FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE /source/
COPY shardproxy /source/shardproxy
RUN python -m venv /opt/shardproxy && /opt/shardproxy/bin/pip install --no-cache-dir /source

FROM python:3.12-slim
RUN useradd --system --no-create-home shardproxy
COPY --from=build /opt/shardproxy /opt/shardproxy
ENV PATH=/opt/shardproxy/bin:$PATH PYTHONUNBUFFERED=1
USER shardproxy
EXPOSE 6432
# Healthy: it answers an SSLRequest (length 8, code 80877103) with one byte, as PostgreSQL does.
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s CMD ["python", "-c", "\
import socket, struct;\
peer = socket.create_connection(('127.0.0.1', 6432), 2);\
peer.sendall(struct.pack('!ii', 8, 80877103));\
assert peer.recv(1) in (b'N', b'S')"]
# Docker's stop signal, SIGTERM, drains.
ENTRYPOINT ["shardproxy"]
CMD ["serve", "-c", "/etc/shardproxy/shardproxy.toml"]
