"""The command line: `tfvae` and its commands."""
