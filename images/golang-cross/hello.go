package main

import "runtime"

func main() {
	println("Hello from Go on", runtime.GOARCH)
}
