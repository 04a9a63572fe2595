output "parameters" {
  description = "What the SSM parameters hold, by name under /fusewire/<stage>/. No value is secret."
  value       = module.aws.parameters
}

output "final_snapshot_identifier" {
  description = "The snapshot that a destroy leaves behind."
  value       = module.aws.final_snapshot_identifier
}

output "nat_addresses" {
  description = "The public addresses that the vendors see, for their allow-lists."
  value       = module.aws.nat_addresses
}

output "workflow_roles" {
  description = "The roles for the variables PLAN_ROLE and DEPLOY_ROLE of the repository; empty without github_repository."
  value       = module.aws.workflow_roles
}
