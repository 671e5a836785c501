#ifndef DIOFS_PLUGIN_DIO_URI_H_
#define DIOFS_PLUGIN_DIO_URI_H_

#include <string>
#include <string_view>

#include "dio/result.h"
#include "env/mount_table.h"

namespace diofs {

//   uri     = "dio://" path [ "?" option *( "&" option ) ]
//   path    = "/" …            absolute, on the host: device or image
//   option  = name "=" value   as in AllVolumeOptions(), each at most once
//
// %XX stands for any byte but NUL, in the path and in values; a '#' has to be
// written so. EINVAL for everything else, with what is wrong (not the URI) in
// the context and *options unchanged. Options a URI does not name stay as they
// are in *options.
Result ParseDioUri(std::string_view uri, VolumeOptions* options);

}  // namespace diofs

#endif  // DIOFS_PLUGIN_DIO_URI_H_
