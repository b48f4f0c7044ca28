package github

import (
	"regexp"
	"strings"
)

// phrases are those of GitHub's words that errors repeat. All others are left
// out: they may name people, or repeat what was sent.
var phrases = []string{
	"Bad credentials",
	"Requires authentication",
	"This endpoint requires you to be authenticated",
	"Resource not accessible by personal access token",
	"Resource not accessible by integration",
	"Resource protected by organization SAML enforcement",
	"Although you appear to have the correct authorization credentials",
	"Must have admin rights to Repository",
	"Not Found",
	"Moved Permanently",
	"Issues are disabled for this repo",
	"Issues has been disabled in this repository",
	"This issue was deleted",
	"Repository access blocked",
	"Validation Failed",
	"Pagination with the page parameter is not supported for large datasets",
	"Problems parsing JSON",
	"Server Error",
	"No server is currently available to service your request",
	"Something went wrong while executing your query",
	"Timeout on validation of query",
	"This installation has been suspended",
}

// words returns the phrase that the site's words begin with, or nothing.
func words(message string) string {
	for _, phrase := range phrases {
		if strings.HasPrefix(message, phrase) {
			return phrase
		}
	}
	return ""
}

// graphCode is the form of the types and codes of GraphQL's errors.
var graphCode = regexp.MustCompile(`^[A-Za-z_]{1,60}$`)

// code returns a type or a code of an error of GraphQL, if it is one.
func code(text string) string {
	if !graphCode.MatchString(text) {
		return "an error of an unknown kind"
	}
	return text
}
