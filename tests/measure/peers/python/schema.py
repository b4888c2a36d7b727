"""The part of proto/hunhe/v1/report.proto that this pipeline reads, built at start, so that no protoc is needed.

Fields that are left out here are kept by protobuf as unknown ones.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = descriptor_pb2.FieldDescriptorProto
_MESSAGES = {
    "Block": [
        ("t0", 1, _TYPES.TYPE_SINT64, None),
        ("step", 2, _TYPES.TYPE_UINT32, None),
        ("principal", 4, _TYPES.TYPE_BYTES, None),
    ],
    "Report": [
        ("boot", 1, _TYPES.TYPE_FIXED32, None),
        ("seq", 2, _TYPES.TYPE_UINT64, None),
        ("blocks", 10, _TYPES.TYPE_MESSAGE, "Block"),
    ],
}


def _build():
    file = descriptor_pb2.FileDescriptorProto(name="report.proto", package="hunhe.v1", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, of in fields:
            label = _TYPES.LABEL_REPEATED if of else _TYPES.LABEL_OPTIONAL
            type_name = f".hunhe.v1.{of}" if of else None
            message.field.add(name=field, number=number, type=kind, label=label, type_name=type_name)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("hunhe.v1.Report"))


Report = _build()
