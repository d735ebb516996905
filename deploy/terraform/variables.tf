variable "name" {
  description = "Name of the server and of everything that belongs to it."
  type        = string
  default     = "zlay"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,62}$", var.name))
    error_message = "A name is lower case letters, digits and hyphens, and begins with a letter."
  }
}

variable "domain" {
  description = "The relay's name, such as relay.example.com. Its A record has to point at the output ipv4."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "The domain is a name of two labels or more in lower case, without scheme, port and final dot."
  }
}

variable "location" {
  description = "Where the server stands. CPX types exist in hil (Hillsboro) and ash (Ashburn), among others."
  type        = string
  default     = "hil"

  validation {
    condition     = contains(["hil", "ash", "fsn1", "nbg1", "hel1", "sin"], var.location)
    error_message = "The location is one of hil, ash, fsn1, nbg1, hel1, sin."
  }
}

variable "server_type" {
  description = "cpx41: 8 shared vCPU, 16 GB of memory, 240 GB of local NVMe."
  type        = string
  default     = "cpx41"

  validation {
    condition     = can(regex("^c(cx|px|x)[0-9]+$", var.server_type))
    error_message = "An x86 type, such as cpx41: the image is built for the server's own processor."
  }
}

variable "ssh_public_key" {
  description = "The operator's public key, as a line of authorized_keys."
  type        = string

  validation {
    condition     = can(regex("^(ssh-ed25519|ecdsa-sha2-nistp256|sk-ssh-ed25519@openssh.com|ssh-rsa) [A-Za-z0-9+/=]+( .*)?$", trimspace(var.ssh_public_key)))
    error_message = "This is no public key; a private one does not belong here."
  }
}

variable "ssh_host_key" {
  description = "The server's own ed25519 private key, made beforehand so that the first connection is checked too."
  type        = string
  sensitive   = true

  validation {
    condition     = startswith(var.ssh_host_key, "-----BEGIN OPENSSH PRIVATE KEY-----\n")
    error_message = "The host key is an OpenSSH private key (`just zlay-infra` makes one)."
  }
}

variable "ssh_host_public_key" {
  description = "Its public half."
  type        = string

  validation {
    condition     = startswith(var.ssh_host_public_key, "ssh-ed25519 ")
    error_message = "The host key is an ed25519 key."
  }
}

variable "admin_addresses" {
  description = "Networks from which SSH (22) and the Kubernetes API (6443) can be reached, such as 203.0.113.7/32."
  type        = list(string)

  validation {
    condition     = length(var.admin_addresses) > 0 && alltrue([for a in var.admin_addresses : can(cidrhost(a, 0))])
    error_message = "Each is a network in CIDR form, such as 203.0.113.7/32 or 2001:db8::/64; at least one."
  }

  validation {
    condition     = alltrue([for a in var.admin_addresses : can(regex("/(0|[1-7])$", a)) == false])
    error_message = "A network of a /7 or larger is nearly everybody."
  }
}

variable "repository" {
  description = "Where the server clones zlay from, over https."
  type        = string

  validation {
    condition     = can(regex("^https://[A-Za-z0-9./_~-]+$", var.repository))
    error_message = "An https:// URL without a password: it is kept on the server in plain text."
  }
}

variable "k3s_version" {
  description = "The k3s release; upgrades of a running server are described in docs/operations.md."
  type        = string
  default     = "v1.35.6+k3s1"

  validation {
    condition     = can(regex("^v1\\.[0-9]+\\.[0-9]+\\+k3s[0-9]+$", var.k3s_version))
    error_message = "A k3s release looks like v1.35.6+k3s1."
  }
}

variable "rust_version" {
  description = "The toolchain that builds zlay on the server; Cargo.toml says the oldest that works."
  type        = string
  default     = "1.95.0"

  validation {
    condition     = can(regex("^1\\.[0-9]+\\.[0-9]+$", var.rust_version))
    error_message = "A Rust release looks like 1.95.0."
  }
}
