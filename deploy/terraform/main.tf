# One server with k3s. It is made once and then looked after: nothing here destroys or rebuilds it.

locals {
  everybody = ["0.0.0.0/0", "::/0"]
  labels    = { app = var.name }
}

resource "hcloud_ssh_key" "operator" {
  name       = "${var.name}-operator"
  public_key = trimspace(var.ssh_public_key)
  labels     = local.labels
}

# The address outlives the server, so that a new server needs no change of DNS.
resource "hcloud_primary_ip" "ipv4" {
  name              = "${var.name}-ipv4"
  type              = "ipv4"
  location          = var.location
  auto_delete       = false
  delete_protection = true
  labels            = local.labels

  lifecycle {
    prevent_destroy = true
  }
}

resource "hcloud_firewall" "relay" {
  name   = var.name
  labels = local.labels

  rule {
    description = "SSH, for operators"
    direction   = "in"
    protocol    = "tcp"
    port        = "22"
    source_ips  = var.admin_addresses
  }

  rule {
    description = "Kubernetes API, for operators"
    direction   = "in"
    protocol    = "tcp"
    port        = "6443"
    source_ips  = var.admin_addresses
  }

  rule {
    description = "HTTP: answers to Let's Encrypt, and redirects"
    direction   = "in"
    protocol    = "tcp"
    port        = "80"
    source_ips  = local.everybody
  }

  # The relay itself has no port of its own here: whoever wants it comes through Traefik.
  rule {
    description = "HTTPS and websockets"
    direction   = "in"
    protocol    = "tcp"
    port        = "443"
    source_ips  = local.everybody
  }

  rule {
    description = "Path MTU discovery, and ping"
    direction   = "in"
    protocol    = "icmp"
    source_ips  = local.everybody
  }
}

# No volume: events are synced to disk before anybody sees them, and the server's own NVMe answers ten
# times sooner than a volume over the network. What must survive the disk (hosts, bans, takedowns) is in
# Postgres, and its dumps are taken off the server; events are gone from the window after hours anyway.
resource "hcloud_server" "relay" {
  name         = var.name
  server_type  = var.server_type
  image        = "debian-12"
  location     = var.location
  ssh_keys     = [hcloud_ssh_key.operator.id]
  firewall_ids = [hcloud_firewall.relay.id]
  labels       = local.labels

  delete_protection        = true
  rebuild_protection       = true
  shutdown_before_deletion = true

  user_data = templatefile("${path.module}/cloud-init.yaml.tftpl", {
    domain              = var.domain
    ipv4                = hcloud_primary_ip.ipv4.ip_address
    k3s_version         = var.k3s_version
    repository          = var.repository
    rust_version        = var.rust_version
    ssh_host_key        = var.ssh_host_key
    ssh_host_public_key = var.ssh_host_public_key
  })

  public_net {
    ipv4_enabled = true
    ipv4         = hcloud_primary_ip.ipv4.id
    ipv6_enabled = true
  }

  # A server that is made anew is an empty one, at the prices of that day. cloud-init runs once, so a
  # change of its text must not look like a reason to rebuild.
  lifecycle {
    prevent_destroy = true
    ignore_changes  = [image, user_data, ssh_keys]
  }
}
