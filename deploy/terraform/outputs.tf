output "ipv4" {
  description = "The server's address; it stays the same when the server is replaced."
  value       = hcloud_primary_ip.ipv4.ip_address
}

output "ipv6" {
  description = "For SSH. The relay is served over IPv4 only: k3s as it is set up here has no IPv6 for pods."
  value       = hcloud_server.relay.ipv6_address
}

output "dns" {
  description = "The record to make where the domain is managed; no AAAA record."
  value       = "${var.domain}. 300 IN A ${hcloud_primary_ip.ipv4.ip_address}"
}
