terraform {
  # 1.11 for write-only attributes: the password reaches Azure and stays out of the state.
  required_version = ">= 1.11"

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 4.55"
    }
  }
}
