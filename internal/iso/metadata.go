package iso

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of the XML files below UPGRADE; real ones have 200 KiB at most and are
// nested five deep.
const (
	maxMetadata = 1 << 20
	maxNesting  = 64
)

// An element is wanted from an XML document, by its name and, unless that is
// "", its parent's.
type element struct{ parent, name string }

// xmlTexts returns the text of the first occurrence of each wanted element, ""
// for those that are missing. It reads no further than it must. encoding/xml
// knows neither external nor declared entities, so that the size of data bounds
// the work.
func xmlTexts(data []byte, wanted ...element) ([]string, error) {
	d := xml.NewDecoder(bytes.NewReader(data))
	d.CharsetReader = func(charset string, r io.Reader) (io.Reader, error) {
		if strings.EqualFold(charset, "us-ascii") {
			return r, nil // a part of UTF-8
		}
		return nil, fmt.Errorf("the character set %q is not supported", printable(charset))
	}
	texts := make([]string, len(wanted))
	missing := len(wanted)
	var parents []string
	for missing > 0 {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		switch t := token.(type) {
		case xml.StartElement:
			parents = append(parents, t.Name.Local)
			if len(parents) > maxNesting {
				return nil, fmt.Errorf("its elements are nested more than %d deep", maxNesting)
			}
		case xml.EndElement:
			parents = parents[:len(parents)-1]
		case xml.CharData:
			for i, e := range wanted {
				if text := strings.TrimSpace(string(t)); texts[i] == "" && text != "" && e.at(parents) {
					texts[i] = text
					missing--
				}
			}
		}
	}
	return texts, nil
}

// at tells whether the innermost of the open elements is e.
func (e element) at(open []string) bool {
	n := len(open)
	return n > 0 && open[n-1] == e.name && (e.parent == "" || n > 1 && open[n-2] == e.parent)
}
