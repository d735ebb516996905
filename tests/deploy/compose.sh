#!/usr/bin/env bash
# The compose file with all that it mounts, and Caddy in front of a relay that runs.
# shellcheck source=tests/deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install_tools

compose=deploy/compose/compose.yaml
domain=relay.example.com

# `.env` as somebody would have filled it in.
filled_in() {
  sed 's/^\(ZLAY_ADMIN_PASSWORD\)=$/\1=pass-of-admin/; s/^\(ZLAY_POSTGRES_PASSWORD\)=$/\1=pass-of-database/' \
    deploy/compose/.env.example >"$scratch/env"
}

configuration() { docker-compose --env-file "$1" --file "$compose" config; }

compose_reads_it() {
  filled_in
  configuration "$scratch/env" >"$scratch/config.yaml"
  "$tools/bin/python" - "$scratch/config.yaml" <<'PYTHON'
import os, re, sys
import yaml
with open(sys.argv[1], encoding="utf-8") as file:
    config = yaml.safe_load(file)
services = config["services"]
assert set(services) == {"relay", "postgres", "caddy", "prometheus", "grafana"}, set(services)
for name, service in services.items():
    tag = service["image"].rpartition(":")[2]
    assert re.match(r"v?\d+\.\d+", tag), f"{name}: {service['image']} is not pinned"
    assert "healthcheck" in service, f"{name} has no health check"
    assert service["restart"] == "unless-stopped", name
    for port in service.get("ports", []):
        assert str(port).startswith("127.0.0.1:"), f"{name} is open to everybody at {port}"
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("/") and not source.endswith("/monitoring"):
            assert os.path.isfile(source), f"{name} mounts {source}, which is not there"
environment = services["relay"]["environment"]
assert environment["DATABASE_URL"] == "postgres://zlay:pass-of-database@postgres/zlay?sslmode=disable"
assert environment["RELAY_ADMIN_PASSWORD"] == "pass-of-admin"
# What .env sets arrives, and what it does not set is not set.
assert environment["RELAY_RETENTION_BYTES"] == "50G"
assert environment["RELAY_UPSTREAM"] is None
assert services["postgres"]["environment"]["POSTGRES_PASSWORD"] == "pass-of-database"
# The database reaches nothing, and nothing but the relay reaches it.
assert config["networks"]["database"]["internal"] is True
members = [name for name, service in services.items() if "database" in service.get("networks", {})]
assert members == ["postgres", "relay"], members
PYTHON
}

what_is_missing_is_named() {
  local name said
  filled_in
  for name in ZLAY_DOMAIN LETSENCRYPT_EMAIL ZLAY_ADMIN_PASSWORD ZLAY_POSTGRES_PASSWORD; do
    sed "s/^$name=.*/$name=/" "$scratch/env" >"$scratch/without"
    if said=$(configuration "$scratch/without" 2>&1); then fail "nobody misses $name"; fi
    grep -q "$name" <<<"$said" || fail "$name is not named: $said"
  done
}

prometheus_reads_its_file() {
  mkdir "$scratch/prometheus"
  cp deploy/compose/prometheus.yml "$scratch/prometheus/"
  if [ -d deploy/monitoring ]; then cp -r deploy/monitoring "$scratch/prometheus/zlay"; fi
  promtool check config "$scratch/prometheus/prometheus.yml"
}

the_caddyfile_is_valid() {
  local choice
  for choice in closed open; do
    ZLAY_DOMAIN=$domain LETSENCRYPT_EMAIL=you@example.com ZLAY_ADMIN=$choice \
      "$tools/bin/caddy" validate --adapter caddyfile --config deploy/caddy/Caddyfile
  done
  if ZLAY_DOMAIN=$domain LETSENCRYPT_EMAIL=you@example.com ZLAY_ADMIN=opne \
    "$tools/bin/caddy" validate --adapter caddyfile --config deploy/caddy/Caddyfile; then
    fail "a wrong ZLAY_ADMIN is taken"
  fi
  # The image is the one that was asked here.
  local version
  version=$("$tools/bin/caddy" version | sed 's/^v\([^ ]*\).*/\1/')
  grep -q "caddy:$version-" "$compose" || fail "compose.yaml has another Caddy than $version"
}

# start_caddy CHOICE PORT RELAY_PORT
start_caddy() {
  {
    printf '{\n\tadmin off\n\tpersist_config off\n\tskip_install_trust\n}\n'
    # Without the block of global options, which is that of a server with certificates.
    sed '/^{$/,/^}$/d' deploy/caddy/Caddyfile
  } >"$scratch/Caddyfile-$1"
  ZLAY_DOMAIN="http://localhost:$2, http://127.0.0.1:$2" ZLAY_RELAY=127.0.0.1:$3 ZLAY_ADMIN=$1 XDG_DATA_HOME=$scratch/caddy-$1 \
    "$tools/bin/caddy" run --adapter caddyfile --config "$scratch/Caddyfile-$1" >"$scratch/caddy-$1.log" 2>&1 &
}

status_of() { curl --silent --output /dev/null --write-out '%{http_code}' --path-as-is "$@"; }

# A subscriber gets its websocket through Caddy; who asks is counted by its own address; /admin is not
# there, or asks for the password.
subscribers_get_through_caddy() {
  local public internal plc closed open
  read -r public internal plc closed open < <(free_ports 5)
  local variables
  mapfile -t variables < <(simulated "$public" "$internal" "$plc")
  env "${variables[@]}" RELAY_DATA_DIR="$scratch/data" RELAY_ADMIN_PASSWORD=sesame RUST_LOG=info,zlay=debug \
    "$binaries/zlay" >"$scratch/log" 2>&1 &
  relay=$!
  start_caddy closed "$closed" "$public"
  first=$!
  start_caddy open "$open" "$public"
  second=$!
  trap 'kill $relay $first $second 2>/dev/null || true' EXIT
  local address
  for address in "$closed" "$open"; do
    eventually 30 curl --silent --fail "http://localhost:$address/_health" ||
      { cat "$scratch"/caddy-*.log "$scratch/log"; return 1; }
  done
  network "$plc" "http://localhost:$closed" 3

  local path
  for path in /admin /admin/pds/list //admin/pds/list /%61dmin/pds/list /x/../admin/pds/list /ADMIN/pds/list; do
    equal "status of $path with its password" 404 \
      "$(status_of --user admin:sesame "http://localhost:$closed$path")"
  done
  equal "status without a password" 401 "$(status_of "http://localhost:$open/admin/pds/list")"
  equal "status with the password" 200 \
    "$(status_of --user admin:sesame "http://localhost:$open/admin/pds/list")"
  for path in /metrics /healthz; do
    equal "status of $path" 404 "$(status_of "http://localhost:$closed$path")"
  done

  # A client's word on its own address does not count, the proxy's does: both fail to log in.
  local forged="X-Forwarded-For: 203.0.113.7"
  equal "status" 401 "$(status_of --user admin:x --header "$forged" "http://127.0.0.1:$open/admin/pds/list")"
  eventually 10 grep -q 'wrong credentials client=127.0.0.1' "$scratch/log"
  if grep -q 203.0.113.7 "$scratch/log"; then fail "the client's word is passed on"; fi
  equal "status" 401 "$(status_of --user admin:x --header "$forged" "http://127.0.0.1:$public/admin/pds/list")"
  eventually 10 grep -q 'wrong credentials client=203.0.113.7' "$scratch/log"
  kill "$relay"
  wait "$relay"
  trap - EXIT
  kill "$first" "$second"
  wait "$first" "$second" || true
}

check "docker-compose reads compose.yaml; images are pinned, ports are local, files are there" compose_reads_it
check "a variable that is missing in .env is named" what_is_missing_is_named
check "Prometheus reads its file, and the rules beside it" prometheus_reads_its_file
check "the Caddyfile is valid for the Caddy of compose.yaml" the_caddyfile_is_valid
check "subscribers get through Caddy; /admin does not, unless chosen" subscribers_get_through_caddy
checked
