terraform {
  required_version = ">= 1.9"

  required_providers {
    hcloud = {
      source  = "hetznercloud/hcloud"
      version = "~> 1.67"
    }
  }
}

# The token comes from HCLOUD_TOKEN; it is in no file and in no state.
provider "hcloud" {}
