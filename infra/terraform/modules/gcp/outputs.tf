output "host" {
  description = "Where clients connect, with sslmode=verify-ca: the certificate names the instance, not this address."
  value       = google_sql_database_instance.this.private_ip_address
}

output "server_ca_certificates" {
  description = "The instance's own authorities, for sslrootcert."
  value       = google_sql_database_instance.this.server_ca_cert[*].cert
}

output "database_name" {
  description = "The database."
  value       = google_sql_database.fusewire.name
}

output "owner" {
  description = "The role that migrates."
  value       = google_sql_user.owner.name
}

output "connection_name" {
  description = "For restores and for the Cloud SQL Auth Proxy."
  value       = google_sql_database_instance.this.connection_name
}
