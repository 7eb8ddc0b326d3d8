# The verbs of the deployment guides. ENV=dev|staging|production; ARGS=--dry-run only prints;
# HELM_ARGS="--set key=value --values file" adds values. docs/from-the-guides.md describes the rest.
VERBS = deploy-with-diffusers-dev deploy-with-diffusers-prod deploy-dev deploy-staging deploy-prod undeploy \
  test-connectivity test-integration check-services load-test logs manifests images push-images
.PHONY: help $(VERBS)
export ENV ?= dev
export HELM_ARGS TIMEOUT REGISTRY ONLY FOLLOW RUNTIME RUNTIME_MODE SCENARIO SETTINGS K6_IMAGE OUT
verb = @node scripts/setup.mjs && node_modules/.bin/tsx scripts/deploy/main.ts

help: ; @printf '%s\n' $(VERBS)
deploy-with-diffusers-dev deploy-dev: export ENV = dev
deploy-staging: export ENV = staging
deploy-with-diffusers-prod deploy-prod: export ENV = production
deploy-with-diffusers-dev deploy-with-diffusers-prod: ; $(verb) deploy-with-diffusers $(ARGS)
deploy-dev deploy-staging deploy-prod: ; $(verb) deploy $(ARGS)
undeploy test-connectivity test-integration check-services load-test logs manifests images push-images: ; $(verb) $@ $(ARGS)
