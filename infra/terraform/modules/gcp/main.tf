# Postgres on Google Cloud, for those who keep the ledger there. On a private address only, over TLS only.

resource "google_sql_database_instance" "this" {
  name                = var.name
  project             = var.project
  region              = var.region
  database_version    = "POSTGRES_${var.postgres_version}"
  deletion_protection = var.deletion_protection

  settings {
    edition                     = "ENTERPRISE"
    tier                        = var.tier
    availability_type           = var.regional ? "REGIONAL" : "ZONAL"
    deletion_protection_enabled = var.deletion_protection
    retain_backups_on_delete    = true
    user_labels                 = var.labels

    disk_type             = "PD_SSD"
    disk_size             = var.disk_size_gb
    disk_autoresize       = true
    disk_autoresize_limit = var.disk_autoresize_limit_gb

    # UTC.
    backup_configuration {
      enabled                        = true
      start_time                     = "03:00"
      point_in_time_recovery_enabled = true
      transaction_log_retention_days = var.point_in_time_days

      backup_retention_settings {
        retention_unit   = "COUNT"
        retained_backups = var.retained_backups
      }
    }

    ip_configuration {
      ipv4_enabled    = false
      private_network = var.network
      ssl_mode        = var.ssl_mode
    }

    insights_config {
      query_insights_enabled = true
    }

    # UTC, a Sunday.
    maintenance_window {
      day          = 7
      hour         = 4
      update_track = "stable"
    }
  }

  lifecycle {
    ignore_changes = [settings[0].disk_size] # it has grown by itself
  }
}

resource "google_sql_database" "fusewire" {
  name     = "fusewire"
  project  = var.project
  instance = google_sql_database_instance.this.name
}

resource "google_sql_user" "owner" {
  name                = "fusewire_owner"
  project             = var.project
  instance            = google_sql_database_instance.this.name
  password_wo         = var.owner_password
  password_wo_version = var.owner_password_version
  deletion_policy     = "ABANDON" # it owns the tables, so Postgres refuses to drop it
}
