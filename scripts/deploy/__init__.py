"""`make build`, `make plan`, `make deploy`, `make rollback`, `make destroy` and `bin/fusewire-deploy secrets`.

`target` says where to, `settings` what is passed, `stack` what AWS has, `steps` goes through it in order, `console`
last; `rollback` and `provider_keys` need no build. It runs in .venv-infra, which has boto3 and nothing of the
product's.
"""
