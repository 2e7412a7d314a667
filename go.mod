module github.com/godwit-dns/godwit

go 1.26
