# The console's files: a private bucket, and CloudFront before it. `make deploy` puts the files there. The API isn't behind
# this CloudFront: docs/decisions/0027-console-on-aws.md says why.

locals {
  console_count = var.console ? 1 : 0
  console_host  = var.console_domain != null ? var.console_domain.name : one(aws_cloudfront_distribution.console[*].domain_name)

  # Names in CloudFront are the account's, not the region's.
  console_name = "${local.name}-console-${var.region}"

  # What `make run` sends, with the API's origin beside the page's own.
  console_policy = join("; ", [
    for part in jsondecode(file("${path.module}/../../../../console/policy.json")) :
    var.console_api != null && startswith(part, "connect-src ") ? "${part} ${var.console_api}" : part
  ])
}

# Encrypted by S3's own key: with the stage's, the key's policy would name the distribution, which names the bucket.
resource "aws_s3_bucket" "console" {
  count = local.console_count

  bucket_prefix = "${local.name}-console-"
  force_destroy = true # `make deploy` makes the files anew
}

resource "aws_s3_bucket_public_access_block" "console" {
  count = local.console_count

  bucket = aws_s3_bucket.console[0].id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_policy" "console" {
  count = local.console_count

  bucket = aws_s3_bucket.console[0].id

  # With ListBucket a file that isn't there is a 404; without it a 403, like a policy that is wrong. Nobody can list: `/` is
  # index.html, and no query string is passed on.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "cloudfront.amazonaws.com" }
      Action    = ["s3:GetObject", "s3:ListBucket"]
      Resource  = [aws_s3_bucket.console[0].arn, "${aws_s3_bucket.console[0].arn}/*"]
      Condition = { StringEquals = { "AWS:SourceArn" = aws_cloudfront_distribution.console[0].arn } }
    }]
  })

  # S3 refuses two changes of a bucket at once.
  depends_on = [aws_s3_bucket_public_access_block.console]
}

resource "aws_cloudfront_origin_access_control" "console" {
  count = local.console_count

  name                              = local.console_name
  description                       = "Reads the console's files"
  origin_access_control_origin_type = "s3"
  signing_behavior                  = "always"
  signing_protocol                  = "sigv4"
}

resource "aws_cloudfront_response_headers_policy" "console" {
  count = local.console_count

  name = local.console_name

  security_headers_config {
    content_security_policy {
      content_security_policy = local.console_policy
      override                = true
    }

    content_type_options {
      override = true
    }

    referrer_policy {
      referrer_policy = "no-referrer"
      override        = true
    }

    strict_transport_security {
      access_control_max_age_sec = 31536000
      override                   = true
    }
  }
}

resource "aws_cloudfront_distribution" "console" {
  count = local.console_count

  enabled             = true
  comment             = "${local.name}: console"
  aliases             = var.console_domain[*].name
  default_root_object = "index.html"
  http_version        = "http2and3"
  is_ipv6_enabled     = true

  origin {
    origin_id                = "files"
    domain_name              = aws_s3_bucket.console[0].bucket_regional_domain_name
    origin_access_control_id = aws_cloudfront_origin_access_control.console[0].id
  }

  default_cache_behavior {
    target_origin_id           = "files"
    allowed_methods            = ["GET", "HEAD"]
    cached_methods             = ["GET", "HEAD"]
    viewer_protocol_policy     = "redirect-to-https"
    compress                   = true
    cache_policy_id            = "658327ea-f89d-4fab-a63d-7e88639e58f6" # CachingOptimized: what is `no-cache` for 1 s
    response_headers_policy_id = aws_cloudfront_response_headers_policy.console[0].id
  }

  # Pages are behind `#`, so all of them are index.html, and another path is nothing. A 403 isn't made a 404: it says that
  # CloudFront may not read the bucket.
  custom_error_response {
    error_code            = 404
    response_code         = 404
    response_page_path    = "/404.html"
    error_caching_min_ttl = 10
  }

  restrictions {
    geo_restriction {
      restriction_type = "none"
    }
  }

  viewer_certificate {
    cloudfront_default_certificate = var.console_domain == null
    acm_certificate_arn            = one(var.console_domain[*].certificate_arn)
    minimum_protocol_version       = var.console_domain == null ? null : "TLSv1.2_2021"
    ssl_support_method             = var.console_domain == null ? null : "sni-only"
  }
}
