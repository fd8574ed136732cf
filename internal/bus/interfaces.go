package bus

// The polkit actions of org.esxid1.policy.
const (
	actionBuild   = Name + ".build"
	actionCancel  = Name + ".cancel"
	actionPublish = Name + ".publish"
	actionInspect = Name + ".inspect"
)

// managerInterface is what the service as a whole does.
var managerInterface = &iface{
	name: ManagerInterface,
	methods: []method{
		{name: "GetBuild", in: []arg{{"id", "s"}}, out: []arg{{"build", "o"}}, call: (*call).getBuild},
		{name: "Build", in: []arg{{"iso", "h"}, {"name", "s"}, options}, out: []arg{{"build", "o"}}, action: actionBuild, call: (*call).build},
		{name: "Rebuild", in: []arg{{"id_or_name", "s"}, options}, out: []arg{{"build", "o"}}, action: actionBuild, call: (*call).rebuildNamed},
		{name: "Publish", in: []arg{{"id", "s"}, options}, action: actionPublish, call: (*call).publishNamed},
		{name: "Rescan", in: []arg{options}, action: actionBuild, call: (*call).rescan},
	},
	properties: []property{
		{name: "Version", signature: "s", emits: "const"},
		{name: "DropDirectory", signature: "s", emits: "const"},
		{name: "State", signature: "s", emits: "true"},
		{name: "Status", signature: "s", emits: "true"},
		{name: "QueueLength", signature: "u", emits: "true"},
	},
	signals: []signal{
		{"BuildAdded", []arg{{"build", "o"}, {"id", "s"}}},
		{"BuildFinished", []arg{{"build", "o"}, {"id", "s"}, {"result", "s"}}},
	},
}

// buildInterface is a build.
var buildInterface = &iface{
	name: BuildInterface,
	methods: []method{
		{name: "Cancel", in: []arg{options}, action: actionCancel, call: (*call).cancel},
		{name: "Retry", in: []arg{options}, action: actionBuild, call: (*call).retry},
		{name: "Rebuild", in: []arg{options}, action: actionBuild, call: (*call).rebuild},
		{name: "Publish", in: []arg{options}, action: actionPublish, call: (*call).publish},
		{name: "Screenshot", in: []arg{options}, out: []arg{{"png", "h"}}, action: actionInspect, call: (*call).screenshot},
		{name: "OpenConsole", in: []arg{options}, out: []arg{{"log", "h"}}, action: actionInspect, call: (*call).openConsole},
	},
	properties: []property{
		{name: "Id", signature: "s", emits: "const"},
		{name: "Name", signature: "s", emits: "true"}, // a template may change
		{name: "Title", signature: "s", emits: "true"},
		{name: "Product", signature: "s", emits: "const"},
		{name: "Version", signature: "s", emits: "const"},
		{name: "BuildNumber", signature: "s", emits: "const"},
		{name: "Vendor", signature: "s", emits: "const"},
		{name: "Sha256", signature: "s", emits: "const"},
		{name: "Kickstart", signature: "as", emits: "const"},
		{name: "State", signature: "s", emits: "true"},
		{name: "Current", signature: "b", emits: "true"},
		{name: "QueuePosition", signature: "u", emits: "true"},
		{name: "Step", signature: "s", emits: "true"},
		{name: "StepIndex", signature: "u", emits: "true"},
		{name: "StepCount", signature: "u", emits: "const"},
		{name: "StepStartedUSec", signature: "t", emits: "true"},
		{name: "Progress", signature: "d", emits: "true"},
		{name: "ProgressValid", signature: "b", emits: "true"},
		{name: "BytesDone", signature: "t", emits: "true"},
		{name: "BytesTotal", signature: "t", emits: "true"},
		{name: "Message", signature: "s", emits: "true"},
		{name: "StepTimes", signature: "a(sdts)", emits: "true"},
		{name: "QueuedUSec", signature: "t", emits: "const"},
		{name: "StartedUSec", signature: "t", emits: "true"},
		{name: "FinishedUSec", signature: "t", emits: "true"},
		{name: "ExpectedEndUSec", signature: "t", emits: "true"},
		{name: "NextTryUSec", signature: "t", emits: "true"},
		{name: "Attempts", signature: "u", emits: "true"},
		{name: "Result", signature: "s", emits: "true"},
		{name: "Error", signature: "(ss)", emits: "true"},
		{name: "Image", signature: "o", emits: "true"},
		{name: "Published", signature: "a{ss}", emits: "true"},
	},
}

// imageInterface is a finished image.
var imageInterface = &iface{
	name: ImageInterface,
	properties: []property{
		{name: "Id", signature: "s", emits: "const"},
		{name: "Name", signature: "s", emits: "true"},
		{name: "Title", signature: "s", emits: "true"},
		{name: "Version", signature: "s", emits: "const"},
		{name: "BuildNumber", signature: "s", emits: "const"},
		{name: "Path", signature: "s", emits: "const"},
		{name: "Build", signature: "o", emits: "true"},
		{name: "Sha256", signature: "s", emits: "true"},
		{name: "PackedSize", signature: "t", emits: "true"},
		{name: "RawSize", signature: "t", emits: "true"},
		{name: "DataSize", signature: "t", emits: "true"},
		{name: "CreatedUSec", signature: "t", emits: "true"},
		{name: "Published", signature: "a{ss}", emits: "true"},
	},
}

// logControlInterface lets systemctl service-log-level change what is logged.
var logControlInterface = &iface{
	name: logControl,
	properties: []property{
		{name: "LogLevel", signature: "s", emits: "false", set: (*call).setLogLevel},
		{name: "LogTarget", signature: "s", emits: "false", set: (*call).setLogTarget},
		{name: "SyslogIdentifier", signature: "s", emits: "false"},
	},
}

// introspectableInterface is of every object, also of those that are only on the way to
// others.
var introspectableInterface = &iface{
	name:    introspectable,
	methods: []method{{name: "Introspect", out: []arg{{"xml_data", "s"}}, call: (*call).introspect}},
}

var propertiesInterface = &iface{
	name: Properties,
	methods: []method{
		{name: "Get", in: []arg{{"interface_name", "s"}, {"property_name", "s"}}, out: []arg{{"value", "v"}}, call: (*call).get},
		{name: "GetAll", in: []arg{{"interface_name", "s"}}, out: []arg{{"properties", "a{sv}"}}, call: (*call).getAll},
		{name: "Set", in: []arg{{"interface_name", "s"}, {"property_name", "s"}, {"value", "v"}}, call: (*call).set},
	},
	signals: []signal{
		{"PropertiesChanged", []arg{{"interface_name", "s"}, {"changed_properties", "a{sv}"}, {"invalidated_properties", "as"}}},
	},
}

var objectManagerInterface = &iface{
	name: ObjectManager,
	methods: []method{
		{name: "GetManagedObjects", out: []arg{{"objects", "a{oa{sa{sv}}}"}}, call: (*call).getManagedObjects},
	},
	signals: []signal{
		{"InterfacesAdded", []arg{{"object", "o"}, {"interfaces", "a{sa{sv}}"}}},
		{"InterfacesRemoved", []arg{{"object", "o"}, {"interfaces", "as"}}},
	},
}
