module tax-go

go 1.25

require macula.host/macula v0.1.0

replace macula.host/macula => ../../guest-sdk/go
