# Terraform's variables for a stage, to be copied to infra/<stage>.tfvars and committed: none is secret. Each of them, with
# its default: infra/terraform/modules/aws/variables.tf. These are the smallest shape's.

multi_az       = false
proxy_enabled  = false
instance_class = "db.t4g.micro"

# Without the console, or with a name of its own; its certificate has to be in us-east-1.
# console        = false
# console_domain = { name = "console.example.com", certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/..." }

# The roles of the workflows in .github/workflows, by GitHub's name for the repository in its tokens.
# github_repository = "our-organisation/fusewire"

# A copy of each day out of reach: in a vault, in a second region, and locked.
# backup_vault_days = 365
# second_region     = "eu-west-1"
# backup_lock       = "governance"

# The way out at a tenth of the price: one machine that is yours to patch; or by IPv6 alone, where the vendors have it.
# nat_gateways = 0
# nat_instance = "t4g.nano"
# ipv6_egress  = true
