// Written by Paddock. Firefox presents a certificate unasked: to a site that names the CAs it takes, as Paddock's do, one that these have signed.
pref("security.default_personal_cert", "Select Automatically");
