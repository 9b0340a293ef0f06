# A bucket for a team's cache, one policy to write to it and one to read from it.
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "bucket" {
  type        = string
  description = "Name of the bucket."
}

variable "prefix" {
  type        = string
  default     = "cache"
  description = "The folder in the bucket: Memory(\"s3://BUCKET/PREFIX\")."
}

variable "expire_days" {
  type        = number
  default     = 180
  description = "Days after which an entry goes that was not written anew."
}

resource "aws_s3_bucket" "cache" {
  bucket = var.bucket
}

resource "aws_s3_bucket_public_access_block" "cache" {
  bucket                  = aws_s3_bucket.cache.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "cache" {
  bucket = aws_s3_bucket.cache.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "cache" {
  bucket = aws_s3_bucket.cache.id

  rule {
    id     = "expire-entries"
    status = "Enabled"
    filter {
      prefix = "${var.prefix}/"
    }
    expiration {
      days = var.expire_days
    }
  }

  rule {
    id     = "abort-uploads"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

locals {
  policies = {
    for name in ["read-write", "read-only"] : name => templatefile(
      "${path.module}/${name}.json",
      { bucket = aws_s3_bucket.cache.arn, prefix = var.prefix },
    )
  }
}

resource "aws_iam_policy" "cache" {
  for_each = local.policies
  name     = "${var.bucket}-${each.key}"
  policy   = each.value
}

output "url" {
  value = "s3://${aws_s3_bucket.cache.id}/${var.prefix}"
}

output "policies" {
  value = { for name, policy in aws_iam_policy.cache : name => policy.arn }
}
