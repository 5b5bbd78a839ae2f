# <to be read from the services' package>
