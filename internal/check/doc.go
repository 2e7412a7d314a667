// Package check holds the project's own rules as tests: who may import whom, what a file may contain, what a directive's
// manual page must say, how large the program may be. A rule that has to give way is changed here, where a review sees it.
package check
