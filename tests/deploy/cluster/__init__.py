"""Checks of the deployment to one server with k3s, without that server."""
