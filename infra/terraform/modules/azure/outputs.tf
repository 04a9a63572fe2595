output "host" {
  description = "Where clients connect, with sslmode=verify-full."
  value       = azurerm_postgresql_flexible_server.this.fqdn
}

output "database_name" {
  description = "The database."
  value       = azurerm_postgresql_flexible_server_database.fusewire.name
}

output "owner" {
  description = "The role that migrates."
  value       = azurerm_postgresql_flexible_server.this.administrator_login
}

output "server_id" {
  description = "For restores: az postgres flexible-server restore --source-server ID."
  value       = azurerm_postgresql_flexible_server.this.id
}
