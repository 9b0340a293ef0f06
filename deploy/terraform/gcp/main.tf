# The same on Google Cloud: a bucket, one role to write to it and one to read from it.
terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 5.0"
    }
  }
}

variable "project" {
  type = string
}

variable "bucket" {
  type = string
}

variable "location" {
  type    = string
  default = "EU"
}

variable "expire_days" {
  type    = number
  default = 180
}

variable "writers" {
  type        = list(string)
  default     = []
  description = "Who may compute and store, such as serviceAccount:name@project.iam.gserviceaccount.com."
}

variable "readers" {
  type        = list(string)
  default     = []
  description = "Who may only use what is stored."
}

resource "google_storage_bucket" "cache" {
  project                     = var.project
  name                        = var.bucket
  location                    = var.location
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  lifecycle_rule {
    condition {
      age = var.expire_days
    }
    action {
      type = "Delete"
    }
  }

  lifecycle_rule {
    condition {
      age = 1
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }
}

resource "google_project_iam_custom_role" "cache_writer" {
  project = var.project
  role_id = "jobspanCacheWriter"
  title   = "Read and write a jobspan cache"
  permissions = [
    "storage.objects.create",
    "storage.objects.delete",
    "storage.objects.get",
    "storage.objects.list",
  ]
}

resource "google_project_iam_custom_role" "cache_reader" {
  project     = var.project
  role_id     = "jobspanCacheReader"
  title       = "Read a jobspan cache"
  permissions = ["storage.objects.get", "storage.objects.list"]
}

resource "google_storage_bucket_iam_member" "writers" {
  for_each = toset(var.writers)
  bucket   = google_storage_bucket.cache.name
  role     = google_project_iam_custom_role.cache_writer.name
  member   = each.value
}

resource "google_storage_bucket_iam_member" "readers" {
  for_each = toset(var.readers)
  bucket   = google_storage_bucket.cache.name
  role     = google_project_iam_custom_role.cache_reader.name
  member   = each.value
}

output "url" {
  value = "gs://${google_storage_bucket.cache.name}"
}
