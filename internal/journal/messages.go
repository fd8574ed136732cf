package journal

import "log/slog"

// MessageID names a kind of event for journalctl(1) and the catalog
// (systemd/esxid.catalog), in the form of sd-id128(3). An id is never changed nor
// used for something else: people match on it.
type MessageID string

// The events an operator cares about.
const (
	Accepted          MessageID = "643376f198f14e3a9d82f31bf9694232" // an ISO is in the library
	Rejected          MessageID = "80868e9c70224384ad8eab0b9b5d6bd9" // a dropped file is no installer ISO
	Queued            MessageID = "07383bfeb77748a5bfe9a07f5a8ebb52" // a build waits for its turn
	Started           MessageID = "8d2a0346bcfb4eed887d94bd9b865ab2" // a build has begun
	Built             MessageID = "948a561948ba4a13bbafcb674f710e15" // a verified image is there
	BuildFailed       MessageID = "608932845e88468282e4c9907d92c8ef" // a build stopped and needs the operator
	KickstartRefused  MessageID = "b002b4840eac4e798425bd3b4f96e93f" // an override has errors
	TriedAgain        MessageID = "374ba3bd71f9471a9121323e944faeb9" // a build or publication goes on by itself later
	Published         MessageID = "1d84fc3b656f4869b15f09d5db036940" // an image is on every target
	TargetUnreachable MessageID = "bcaf962ec86642009c380419a4bdcb4d" // a target takes no images
	TargetRecovered   MessageID = "deac969b475d43cc9c915c57f0d2ff50" // ... and takes them again
	DiskLow           MessageID = "62a9d881a73f47eaa1b6b2090d8ca0a3" // there may be too little space for a build
	ConfigRefused     MessageID = "142fdbd95a1f4309831ef0f6c98c48eb" // a reload found a wrong configuration
	RecordDamaged     MessageID = "f79b759da43e4170b26e70062198abe9" // a build.json, or an ISO of the library, cannot be used
	WatchTrouble      MessageID = "9e0e51155035446b9466a14547ba2642" // a directory is not watched
)

// messageIDKey is the attribute that carries a MessageID.
const messageIDKey = "message_id"

// Attr is the attribute that marks a record as such an event.
func (id MessageID) Attr() slog.Attr { return slog.String(messageIDKey, string(id)) }
