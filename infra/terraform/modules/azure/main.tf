# Postgres on Azure, for those who keep the ledger there. Reached from its own network only, over TLS only.

resource "azurerm_postgresql_flexible_server" "this" {
  name                = var.name
  resource_group_name = var.resource_group_name
  location            = var.location
  version             = var.postgres_version
  sku_name            = var.sku_name
  tags                = var.tags

  administrator_login               = "fusewire_owner"
  administrator_password_wo         = var.owner_password
  administrator_password_wo_version = var.owner_password_version

  delegated_subnet_id           = var.delegated_subnet_id
  private_dns_zone_id           = var.private_dns_zone_id
  public_network_access_enabled = false

  storage_mb        = var.storage_mb
  auto_grow_enabled = true

  backup_retention_days        = var.backup_retention_days
  geo_redundant_backup_enabled = var.geo_redundant_backup

  dynamic "high_availability" {
    for_each = var.zone_redundant ? [1] : []

    content {
      mode = "ZoneRedundant"
    }
  }

  # UTC, a Sunday.
  maintenance_window {
    day_of_week  = 0
    start_hour   = 4
    start_minute = 30
  }

  lifecycle {
    # A failover swaps the zones, and storage has grown by itself: neither is to be undone.
    ignore_changes = [zone, high_availability[0].standby_availability_zone, storage_mb]
  }
}

resource "azurerm_postgresql_flexible_server_configuration" "tls" {
  for_each = {
    require_secure_transport = "on"
    ssl_min_protocol_version = "TLSv1.2"
  }

  name      = each.key
  server_id = azurerm_postgresql_flexible_server.this.id
  value     = each.value
}

resource "azurerm_postgresql_flexible_server_database" "fusewire" {
  name      = "fusewire"
  server_id = azurerm_postgresql_flexible_server.this.id
  charset   = "UTF8"
  collation = "en_US.utf8"
}

resource "azurerm_management_lock" "this" {
  count = var.deletion_protection ? 1 : 0

  name       = "the-ledger-is-in-here"
  scope      = azurerm_postgresql_flexible_server.this.id
  lock_level = "CanNotDelete"
  notes      = "Set deletion_protection = false and apply before deleting."
}
