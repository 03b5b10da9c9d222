module macula.host/macula

go 1.25
