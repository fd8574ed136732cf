module github.com/esxid/esxid

go 1.26
