module outside.example/kyc

go 1.26.0

require (
	github.com/kyclink/kyclink v0.0.0
	github.com/redis/go-redis/v9 v9.0.0
)
